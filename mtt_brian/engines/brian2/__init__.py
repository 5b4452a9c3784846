"""The circuit as a Brian2 network: event-driven (runtime, C++ project, CUDA project) or on a clock."""
