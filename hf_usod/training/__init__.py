"""The training stages of the method, on Accelerate. Import its modules; `plan`, `options` and `arguments` are light."""
