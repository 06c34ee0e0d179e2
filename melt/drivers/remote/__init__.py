"""Devices that are driven by a shell: what adb, SSH and this machine itself have in common."""
