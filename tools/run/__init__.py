"""The pair on this machine: both services, their traces in the terminal, Prometheus if it is installed."""
