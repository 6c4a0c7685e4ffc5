"""The whole chain at work: the demonstration, the paper's study, a bundle's error rates, precision and speed."""
