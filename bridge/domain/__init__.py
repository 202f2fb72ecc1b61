"""The pure core: what the bridge knows and decides. No clock, no input or output, standard library only."""
