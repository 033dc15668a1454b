//! An address to listen at, as a person writes it on the command line or in the environment.

use std::net::SocketAddr;

/// Reads an address with its port.
///
/// # Errors
/// A sentence for the user about what is expected.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    text.parse().map_err(|_| match text.parse::<u16>() {
        Ok(port) => format!("expected an address before the port, such as 0.0.0.0:{port} or 127.0.0.1:{port}"),
        Err(_) => "expected an IP address and a port, such as 0.0.0.0:4433 or [::]:4433".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_and_whoever_forgets_one_of_them_is_told() {
        assert_eq!(address(" 127.0.0.1:80 ").unwrap().port(), 80);
        assert_eq!(address("[::]:4433").unwrap().port(), 4433);
        assert!(address("8080").unwrap_err().contains("such as 0.0.0.0:8080"));
        for text in ["localhost:80", "0.0.0.0", "::1:80", ""] {
            assert!(address(text).unwrap_err().starts_with("expected an IP address and a port"), "{text}");
        }
    }
}
