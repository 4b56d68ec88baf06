from pipeline.errors import *  # noqa
