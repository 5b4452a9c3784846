"""What needs both halves, training and event-driven runs: run folders, evaluation, studies."""
