"""Behaviours of gRPC as tables, run on bare grpcio, on this package and on its peers, and compared."""
