"""Studies of the whole pipeline: the demonstration, the paper's study, a bundle's error rates, precision and speed."""
