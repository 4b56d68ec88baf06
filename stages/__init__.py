"""One module per DVC stage: parameters and inputs in, one library call, an output folder."""
