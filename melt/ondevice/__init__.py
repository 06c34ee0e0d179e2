"""The programs that run on devices; they import nothing of melt."""
