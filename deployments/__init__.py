"""What runs when and where: schedules, the local stack, the worker, the CLI."""
