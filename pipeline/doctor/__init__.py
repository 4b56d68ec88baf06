"""Looks a data set over before anything is run on it: `fs4 doctor`."""
