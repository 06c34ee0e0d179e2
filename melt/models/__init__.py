"""Models: references, header inspection, memory prediction, synthetic weights, quantisation, cache."""
