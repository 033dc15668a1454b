//! Tests of the rules as a whole: clusters of nodes, hostile entries, frozen vectors.

mod agreement;
mod aside;
mod ballot;
mod certified;
mod challenges;
mod cluster;
mod contests;
mod draws;
mod evaluation;
mod evidence;
mod fixture;
mod gauntlet;
mod hostile;
mod late;
mod pay;
mod refuted;
mod registration;
mod reveals;
mod rules;
mod state;
