"""The pair on this machine: both services, their traces in the terminal, Prometheus where it is at hand."""
