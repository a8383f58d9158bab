"""gRPC mechanics: what its handlers and call objects do, put into the record of the call."""
