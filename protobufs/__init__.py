"""The services' contracts; the code beside each .proto file is made by `make protobufs`."""
