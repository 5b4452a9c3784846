"""Code that needs both training and event-driven runs: run folders, evaluation, studies."""
