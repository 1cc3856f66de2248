"""Models as MLflow has them: what is packaged, and the code that runs where one is served."""
