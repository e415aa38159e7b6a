"""What every process needs: settings, logs, metrics, heartbeats, periodic jobs, HTTP."""
