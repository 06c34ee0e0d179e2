"""A backend for melt whose engine reads every weight once a token and computes nothing: the bound of decoding."""
