//! One hostile input for each rule, each with its documented error.
