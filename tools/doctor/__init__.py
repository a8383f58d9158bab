"""The doctor: why there are no traces, no metrics, or an empty dashboard."""
