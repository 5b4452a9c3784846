"""Forward and backward pass of a layer of spiking neurons over all its time steps."""
