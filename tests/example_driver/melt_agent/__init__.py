"""A driver for melt: Linux machines that are reached by a program of their own, which listens on a socket."""
