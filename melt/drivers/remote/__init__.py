"""Devices that are driven from afar by a shell: what adb and SSH have in common."""
