"""All that melt has of pymobiledevice3, one major of it: synchronous calls that give plain data and melt's errors.

Nothing outside this package imports that library.
"""
