"""libtorrent storing and finding items in the DHT (BEP 44). The one argument is a JSON object: listen (address:port), contact (of the
DHT, address:port), value (a text to store), key and secret (of an owner, in hexadecimal, the secret expanded), salt (with which the value
is stored as the owner's, too), immutable (hexadecimal) and mutable (a salt): what to look for. Prints one JSON object a line:
{"event": "put", "target": ..., "stored": ...} and {"event": "found", "kind": ..., "value": ...}."""

import json
import sys
import time

import libtorrent as lt

AGAIN_S = 2


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def main():
    order = json.loads(sys.argv[1])
    session = lt.session(
        {
            "listen_interfaces": order["listen"],
            "enable_dht": True,
            "dht_bootstrap_nodes": order["contact"],
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "alert_mask": lt.alert.category_t.dht_notification | lt.alert.category_t.status_notification,
        }
    )
    key, secret = bytes.fromhex(order["key"]), bytes.fromhex(order["secret"])
    target = lt.sha1_hash(bytes.fromhex(order["immutable"]))
    next_at = 0
    while True:
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + AGAIN_S
            session.dht_put_immutable_item(order["value"].encode())
            session.dht_put_mutable_item(secret, key, order["value"].encode(), order["salt"].encode())
            session.dht_get_immutable_item(target)
            session.dht_get_mutable_item(key, order["mutable"].encode())
        for alert in session.pop_alerts():
            if isinstance(alert, lt.dht_put_alert):
                say("put", target=str(alert.target), stored=alert.num_success)
            elif isinstance(alert, lt.dht_immutable_item_alert) and alert.item:
                say("found", kind="immutable", value=alert.item.decode())
            elif isinstance(alert, lt.dht_mutable_item_alert) and alert.item:
                say("found", kind="mutable", value=alert.item.decode())
        session.wait_for_alert(100)


main()
