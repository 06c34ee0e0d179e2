"""Report: from frames to figures, tables and one HTML page."""
