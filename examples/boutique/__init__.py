"""The recommendation service of Google's demo shop Online Boutique."""
