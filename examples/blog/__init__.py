"""The blog of Flask's tutorial."""
