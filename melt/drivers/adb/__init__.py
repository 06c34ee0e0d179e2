"""Android phones by adb: through the adb server, or directly over TCP or USB."""
