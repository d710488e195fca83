"""The maths: extractors, controller, mapper, backbones and the assembled network.

Nothing here knows of files, logging or RecBole. Letters used in all shape statements:
``B`` batch, ``T`` input length, ``H`` length of the behaviour that adaptation reads,
``D`` hidden_size, ``L`` number of blocks, ``N`` items, ``R`` mapper_rank.
"""
