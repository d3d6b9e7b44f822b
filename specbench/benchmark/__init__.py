"""Running methods over prompts: the workload, the clock, telemetry, and what is stored."""
