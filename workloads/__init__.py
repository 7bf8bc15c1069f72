"""What is to be computed and when: models, operators, placement, schedules, traces. No device, no seconds."""
