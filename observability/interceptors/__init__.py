"""gRPC's mechanics: what its handlers and call objects do, told to the record of the call."""
