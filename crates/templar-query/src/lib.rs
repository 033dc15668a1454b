//! The typed read model of a run: index, views and explanations, for whatever prints or serves them.
