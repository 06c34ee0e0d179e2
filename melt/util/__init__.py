"""Small tools that know nothing of models, devices or results."""
