"""What is said of a measurement: plan, cell, job, events, facts, profile. Pure data."""
