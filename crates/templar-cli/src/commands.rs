//! The commands, one file each: the arguments, the call, the printing.

pub(crate) mod audit;
pub(crate) mod close;
pub(crate) mod dataset;
pub(crate) mod demo;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod evidence;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod fetch;
pub(crate) mod generate;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod node;
pub(crate) mod register;
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod share;
pub(crate) mod show;
pub(crate) mod sim;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod train;
pub(crate) mod verify;
