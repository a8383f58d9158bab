"""The page of `make run`: the latest traces, the methods and who calls whom, in a browser."""
