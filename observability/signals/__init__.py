"""What is made of the records of calls: spans, metrics and log lines."""
