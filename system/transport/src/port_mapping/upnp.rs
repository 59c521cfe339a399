//! What is said to a UPnP Internet Gateway Device: the search, its description, and the actions that map a port.
//!
//! Invariant: everything that a device names (where its description is, where it is controlled) is at the router's own address, or it
//! is not used. So nobody on the network makes us speak HTTP to anybody else.

use super::{Failure, Kind, MAPPING_NAME};
use quick_xml::Reader;
use quick_xml::events::Event;
use std::net::{IpAddr, Ipv4Addr};
use url::{Host, Url};

/// What is searched for (UPnP Device Architecture 1.1 section 1.3.2): both versions of the device, as some answer to the exact one
/// alone.
pub(super) const SEARCHED: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
];

/// The services that map ports, best first.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Services of one device that are tried. Routers have one for each way to the Internet, of which one is in use.
const MAX_SERVICES: usize = 4;

/// Text of one element that is kept. What is looked for is a URL, an address or a number.
const MAX_TEXT_BYTES: usize = 1_024;

/// `ConflictInMappingEntry`: somebody else has the external port.
pub(super) const CONFLICT: u32 = 718;
/// `OnlyPermanentLeasesSupported`: the mapping must have no end.
pub(super) const ONLY_PERMANENT: u32 = 725;

/// The datagram that asks for devices of a type. They answer within a second.
pub(super) fn search(target: &str) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
    )
}

/// Where a device that answered says that its description is, if that is at the router.
pub(super) fn location(datagram: &[u8], router: Ipv4Addr) -> Option<Url> {
    let text = std::str::from_utf8(datagram).ok()?;
    let mut lines = text.lines();
    let status = lines.next()?;
    if !status.starts_with("HTTP/1.") || status.split(' ').nth(1) != Some("200") {
        return None;
    }
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let (_, location) = headers.find(|(name, _)| name.trim().eq_ignore_ascii_case("location"))?;
    at_router(location.trim().parse().ok()?, router)
}

/// The URL, if it is one of HTTP at that address, spelled as such: a name could become another address.
fn at_router(url: Url, router: Ipv4Addr) -> Option<Url> {
    let there = url.host() == Some(Host::Ipv4(router));
    (url.scheme() == "http" && there && url.username().is_empty()).then_some(url)
}

/// A service that can be told to map ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// Where.
    pub(super) control: Url,
    /// Its type, which every action names.
    pub(super) kind: &'static str,
}

/// The services of a device's description that map ports, best first. `from` is where the description is.
pub(super) fn services(description: &[u8], from: &Url, router: Ipv4Addr) -> Vec<Service> {
    let mut found: Vec<Service> = Vec::new();
    let mut base = from.clone();
    let (mut kind, mut control) = (String::new(), String::new());
    let _ = each_element(description, |name, text| match name {
        // Gone since version 1.1 of the architecture, and still said.
        "URLBase" => base = text.parse().unwrap_or_else(|_| base.clone()),
        "serviceType" => text.clone_into(&mut kind),
        "controlURL" => text.clone_into(&mut control),
        "service" => {
            let known = SERVICES.iter().find(|known| **known == kind);
            let url = base.join(&control).ok();
            let url = url.and_then(|url| at_router(url, router));
            if let (Some(kind), Some(control), 0..MAX_SERVICES) = (known, url, found.len()) {
                found.push(Service { control, kind });
            }
            kind.clear();
            control.clear();
        }
        _ => {}
    });
    found.sort_by_key(|service| SERVICES.iter().position(|known| *known == service.kind));
    found
}

/// One action of a service.
pub(super) struct Action {
    name: &'static str,
    arguments: Vec<(&'static str, String)>,
}

impl Action {
    pub(super) fn external_address() -> Action {
        Action {
            name: "GetExternalIPAddress",
            arguments: Vec::new(),
        }
    }

    /// A lifetime of 0 has no end.
    pub(super) fn add(
        kind: Kind,
        external: u16,
        client: Ipv4Addr,
        internal: u16,
        lifetime_s: u32,
    ) -> Action {
        Action {
            name: "AddPortMapping",
            arguments: vec![
                ("NewRemoteHost", String::new()),
                ("NewExternalPort", external.to_string()),
                ("NewProtocol", kind.name().to_owned()),
                ("NewInternalPort", internal.to_string()),
                ("NewInternalClient", client.to_string()),
                ("NewEnabled", "1".to_owned()),
                ("NewPortMappingDescription", MAPPING_NAME.to_owned()),
                ("NewLeaseDuration", lifetime_s.to_string()),
            ],
        }
    }

    pub(super) fn delete(kind: Kind, external: u16) -> Action {
        Action {
            name: "DeletePortMapping",
            arguments: vec![
                ("NewRemoteHost", String::new()),
                ("NewExternalPort", external.to_string()),
                ("NewProtocol", kind.name().to_owned()),
            ],
        }
    }

    /// The header `SOAPAction`.
    pub(super) fn header(&self, service: &Service) -> String {
        format!("\"{}#{}\"", service.kind, self.name)
    }

    /// The body. No argument of ours has anything that XML would want escaped.
    pub(super) fn body(&self, service: &Service) -> String {
        let arguments: String = self
            .arguments
            .iter()
            .map(|(name, value)| format!("<{name}>{value}</{name}>"))
            .collect();
        let (name, kind) = (self.name, service.kind);
        format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{name} xmlns:u=\"{kind}\">\
             {arguments}</u:{name}></s:Body></s:Envelope>\r\n"
        )
    }
}

/// Whether an action was carried out.
pub(super) fn done(status: u16, body: &[u8]) -> Result<(), Failure> {
    if status == 200 {
        return Ok(());
    }
    let code = text_of(body, "errorCode").and_then(|code| code.parse().ok());
    Err(code.map_or(Failure::Unusable, Failure::Refused))
}

/// The address in the answer to [`Action::external_address`].
pub(super) fn external_address(status: u16, body: &[u8]) -> Result<Ipv4Addr, Failure> {
    done(status, body)?;
    let text = text_of(body, "NewExternalIPAddress").ok_or(Failure::Unusable)?;
    match text.parse() {
        Ok(IpAddr::V4(address)) => Ok(address),
        _ => Err(Failure::Unusable),
    }
}

/// The text of the first element of this name.
fn text_of(document: &[u8], wanted: &str) -> Option<String> {
    let mut found = None;
    let _ = each_element(document, |name, text| {
        if name == wanted && found.is_none() {
            found = Some(text.to_owned());
        }
    });
    found
}

/// Goes through a document without recursing: `end` hears the local name of each element that ends, and the text of those that have no
/// element in them. What cannot be read ends it.
fn each_element(document: &[u8], mut end: impl FnMut(&str, &str)) -> Result<(), quick_xml::Error> {
    let document = String::from_utf8_lossy(document);
    let mut reader = Reader::from_str(&document);
    let (mut open, mut said) = (String::new(), String::new());
    loop {
        match reader.read_event()? {
            Event::Start(tag) => {
                tag.local_name().as_ref().clone_into(&mut open);
                said.clear();
            }
            Event::Text(part) => take(&mut said, &part.xml10_content()),
            Event::CData(part) => take(&mut said, &part.xml10_content()),
            Event::GeneralRef(entity) => {
                let name = entity.xml10_content();
                let known = quick_xml::escape::resolve_predefined_entity(&name);
                take(&mut said, known.unwrap_or_default());
            }
            Event::End(tag) => {
                let name = tag.local_name();
                let text = if name.as_ref() == open { &said } else { "" };
                end(name.as_ref(), text.trim());
                open.clear();
            }
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

fn take(said: &mut String, part: &str) {
    if said.len() + part.len() <= MAX_TEXT_BYTES {
        said.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn answer(location: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLocation: {location}\r\n\r\n")
    }

    fn place(location_said: &str) -> Option<String> {
        location(answer(location_said).as_bytes(), ROUTER).map(String::from)
    }

    #[test]
    fn a_description_is_looked_for_at_the_router_alone() {
        assert_eq!(
            place("http://192.168.1.1:5000/desc.xml").as_deref(),
            Some("http://192.168.1.1:5000/desc.xml")
        );
        for elsewhere in [
            "http://192.168.1.2/desc.xml",
            "http://127.0.0.1:8080/",
            "http://169.254.169.254/latest/meta-data",
            "http://router.example/desc.xml",
            "http://192.168.1.1@10.0.0.1/",
            "http://me@192.168.1.1/",
            "http://[::ffff:192.168.1.1]/",
            "https://192.168.1.1/",
            "file:///etc/passwd",
            "",
        ] {
            assert_eq!(place(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(
            location(
                b"NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/\r\n",
                ROUTER
            ),
            None
        );
    }

    fn described(base: &str, services: &[(&str, &str)]) -> Vec<(String, &'static str)> {
        let listed: String = services
            .iter()
            .map(|(kind, control)| {
                format!("<service><serviceType>{kind}</serviceType><controlURL>{control}</controlURL></service>")
            })
            .collect();
        let document = format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{base}<device>\
             <deviceList><device><serviceList>{listed}</serviceList></device></deviceList></device></root>"
        );
        let from = "http://192.168.1.1:5000/a/desc.xml".parse().unwrap();
        let found = super::services(document.as_bytes(), &from, ROUTER);
        found
            .into_iter()
            .map(|service| (service.control.into(), service.kind))
            .collect()
    }

    #[test]
    fn a_description_names_the_services_that_map_ports_best_first() {
        let found = described(
            "",
            &[
                ("urn:schemas-upnp-org:service:Layer3Forwarding:1", "/l3f"),
                (SERVICES[2], "/ppp?a=1&amp;b=2"),
                (SERVICES[1], "ip"),
            ],
        );
        let expected = [
            ("http://192.168.1.1:5000/a/ip".to_owned(), SERVICES[1]),
            (
                "http://192.168.1.1:5000/ppp?a=1&b=2".to_owned(),
                SERVICES[2],
            ),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_service_elsewhere_is_not_used() {
        assert!(described("", &[(SERVICES[0], "http://10.0.0.5/control")]).is_empty());
        assert!(
            described(
                "<URLBase>http://10.0.0.5/</URLBase>",
                &[(SERVICES[0], "/c")]
            )
            .is_empty()
        );
        let other_port = described(
            "<URLBase>http://192.168.1.1:80</URLBase>",
            &[(SERVICES[0], "c")],
        );
        assert_eq!(
            other_port,
            [("http://192.168.1.1/c".to_owned(), SERVICES[0])]
        );
        let many = vec![(SERVICES[0], "/c"); 100];
        assert_eq!(described("", &many).len(), MAX_SERVICES);
    }

    #[test]
    fn answers_to_actions_are_read() {
        let ok =
            b"<s:Envelope><s:Body><u:GetExternalIPAddressResponse><NewExternalIPAddress>11.1.1.1\
            </NewExternalIPAddress></u:GetExternalIPAddressResponse></s:Body></s:Envelope>";
        assert_eq!(external_address(200, ok), Ok([11, 1, 1, 1].into()));
        assert_eq!(
            external_address(200, b"<NewExternalIPAddress/>"),
            Err(Failure::Unusable)
        );
        let refused = b"<s:Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></s:Fault>";
        assert_eq!(done(500, refused), Err(Failure::Refused(CONFLICT)));
        assert_eq!(done(404, b"no"), Err(Failure::Unusable));
    }

    #[test]
    fn a_document_of_great_depth_does_no_harm() {
        let deep = "<a>".repeat(20_000);
        assert_eq!(text_of(deep.as_bytes(), "b"), None);
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[<>/a-z&;:=\" ]{0,80}") {
            for document in [&bytes[..], text.as_bytes()] {
                let _ = location(document, ROUTER);
                let _ = external_address(200, document);
                let _ = services(document, &"http://192.168.1.1/".parse().unwrap(), ROUTER);
            }
        }
    }
}
