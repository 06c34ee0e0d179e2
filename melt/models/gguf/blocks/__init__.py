"""The parts that layers are made of: the tensors that llama.cpp expects of each."""
