"""The loop closed: a policy turns calibrated alarms into actions that are bounded, reversible and recorded."""
