"""The examples of chapter 5: the native OpenStack calls."""

from tests.reference.mending import Example, Repair, rejoined, respelled

_SERVERS = "/v2.1/{project_id}/servers"
_SERVER = f"{_SERVERS}/{{server_id}}"
_FLAVORS = "/v2.1/{project_id}/flavors"
_KEYPAIRS = "/v2.1/{project_id}/os-keypairs"

_ADDRESSES_OPEN = "the end of addresses was lost, which put metadata and all that follows inside it"
_PAGE_BREAK = "a page break: closing brackets that the extraction made up"
_ANSWER_OPEN = "the brace that ends the answer was lost"
_VOLUME_ID = "an e that was lost: the request of 5.8.3 prints volumeId"
_TENANT = "https://openstack.example.com/v2/c685484a8cc2416b97260938705deb65"
_BOOKMARK = "https://openstack.example.com/c685484a8cc2416b97260938705deb65"

NATIVE_CREATE_REQUEST = Example(name="native_create_request", sections=("5.2.1",), call=f"POST {_SERVERS}")

NATIVE_CREATE_ANSWER = Example(
    name="native_create_answer",
    sections=("5.2.1",),
    call=f"POST {_SERVERS}",
    repairs=(
        rejoined("/servers/\n9ab74d89", "/servers/9ab74d89", times=2),
        respelled(
            '"WITHHELD"',
            '"Not-a-passw0rd"',
            "what stood there is the password of an administrator, and secrets stay out of fixtures",
        ),
    ),
)

NATIVE_SERVER_ANSWER = Example(
    name="native_server_answer",
    sections=("5.2.3",),
    call=f"GET {_SERVER}",
    repairs=(
        Repair('      ],\n      "metadata": {\n', '      ]},\n      "metadata": {\n', _ADDRESSES_OPEN),
        Repair(
            '"OS-SRV-USG:terminated_at": null\n    }\n  }\n}\n```\n\n```\n',
            '"OS-SRV-USG:terminated_at": null,\n',
            _PAGE_BREAK + ", and the comma that it swallowed",
        ),
        Repair('"status": "ACTIVE"\n}\n', '"status": "ACTIVE"\n}\n}\n', _ANSWER_OPEN),
    ),
)

NATIVE_SERVERS_ANSWER = Example(
    name="native_servers_answer",
    sections=("5.2.4",),
    call=f"GET {_SERVERS}",
    repairs=(
        rejoined("deb65/\nservers/", "deb65/servers/"),
        rejoined("deb65/servers/\n820abbd0", "deb65/servers/820abbd0"),
    ),
)

NATIVE_SERVER_DETAILS_ANSWER = Example(
    name="native_server_details_answer",
    sections=("5.2.5",),
    call=f"GET {_SERVERS}/detail",
    repairs=(
        Repair('        ],\n        "metadata": {\n', '        ]},\n        "metadata": {\n', _ADDRESSES_OPEN),
        Repair(
            "        ]\n      }\n    }\n  ]\n}\n```\n\n```\n        ],\n",
            "        ],\n",
            _PAGE_BREAK + " after the links, whose own bracket comes again",
        ),
        Repair('"status": "ACTIVE"\n    }\n]\n', '"status": "ACTIVE"\n    }\n]\n}\n', _ANSWER_OPEN),
    ),
)

NATIVE_RENAME_REQUEST = Example(name="native_rename_request", sections=("5.3.1",), call=f"PUT {_SERVER}")

NATIVE_RENAME_ANSWER = Example(name="native_rename_answer", sections=("5.3.1",), call=f"PUT {_SERVER}")

NATIVE_START_REQUEST = Example(name="native_start_request", sections=("5.3.2",), call=f"POST {_SERVER}/action")

NATIVE_REBOOT_REQUEST = Example(name="native_reboot_request", sections=("5.3.3",), call=f"POST {_SERVER}/action")

NATIVE_STOP_REQUEST = Example(name="native_stop_request", sections=("5.3.4",), call=f"POST {_SERVER}/action")

NATIVE_METADATA_ANSWER = Example(name="native_metadata_answer", sections=("5.4.1",), call=f"GET {_SERVER}/metadata")

NATIVE_METADATA_REQUEST = Example(
    name="native_metadata_request",
    sections=("5.4.2",),
    call=f"POST {_SERVER}/metadata",
    repairs=(Repair('"metadata": {\n```\n\n```\n', '"metadata": {\n', "a page break inside the metadata"),),
)

NATIVE_METADATA_UPDATED_ANSWER = Example(
    name="native_metadata_update_answer", sections=("5.4.2",), call=f"POST {_SERVER}/metadata"
)

NATIVE_META_REQUEST = Example(name="native_meta_request", sections=("5.4.3",), call=f"PUT {_SERVER}/metadata/{{key}}")

NATIVE_META_ANSWER = Example(name="native_meta_answer", sections=("5.4.3",), call=f"PUT {_SERVER}/metadata/{{key}}")

NATIVE_ADDRESSES_ANSWER = Example(
    name="native_addresses_answer",
    sections=("5.5.1",),
    call=f"GET {_SERVER}/ips",
    repairs=(
        Repair(
            "      }\n    ]\n  }\n}\n```\n\n```\n{\n",
            "      },\n{\n",
            _PAGE_BREAK + " between the two addresses",
        ),
        Repair('"192.168.2.90"\n}\n]\n}\n', '"192.168.2.90"\n}\n]\n}\n}\n', _ANSWER_OPEN),
    ),
)

NATIVE_ADDRESS_ANSWER = Example(name="native_address_answer", sections=("5.5.2",), call=f"GET {_SERVER}/ips/{{vpc_id}}")

NATIVE_FLAVORS_ANSWER = Example(
    name="native_flavors_answer",
    sections=("5.6.1",),
    call=f"GET {_FLAVORS}/detail",
    repairs=(
        Repair('"physical.o2.medium",\n```\n\n```\n', '"physical.o2.medium",\n', "a page break inside the flavor"),
        rejoined(f"{_TENANT}/\nflavors/", f"{_TENANT}/flavors/"),
        rejoined(f"{_BOOKMARK}/flavors/\nphysical", f"{_BOOKMARK}/flavors/physical"),
        Repair(
            '"id": "physical.o2.medium"\n}\n',
            '"id": "physical.o2.medium"\n}\n]\n}\n',
            "the brackets that end the list and the answer were lost",
        ),
    ),
)

NATIVE_FLAVOR_ANSWER = Example(
    name="native_flavor_answer",
    sections=("5.6.2",),
    call=f"GET {_FLAVORS}/{{flavor_id}}",
    repairs=(
        rejoined("/flavors/\nphysical", "/flavors/physical", times=2),
        Repair("1862,\n  }\n}\n```\n\n```\n", "1862,\n", _PAGE_BREAK),
    ),
)

NATIVE_EXTRA_SPECS_ANSWER = Example(
    name="native_extra_specs_answer",
    sections=("5.6.3",),
    call=f"GET {_FLAVORS}/{{flavor_id}}/os-extra_specs",
    repairs=(
        Repair('"SAS 8T",\n    }\n}\n```\n\n```\n', '"SAS 8T",\n', _PAGE_BREAK),
        respelled(
            '"baremetal:_support_evs"',
            '"baremetal:__support_evs"',
            "it begins with two underscores, as the tag __type_baremetal does; one was eaten. Both spellings are read",
        ),
        Repair('RAM(GB)"\n    }\n', 'RAM(GB)"\n    }\n}\n', _ANSWER_OPEN),
    ),
)

NATIVE_INTERFACES_ANSWER = Example(
    name="native_interfaces_answer", sections=("5.7.1",), call=f"GET {_SERVER}/os-interface"
)

NATIVE_INTERFACE_ANSWER = Example(
    name="native_interface_answer", sections=("5.7.2",), call=f"GET {_SERVER}/os-interface/{{id}}"
)

NATIVE_VOLUMES_ANSWER = Example(
    name="native_volumes_answer",
    sections=("5.8.1",),
    call=f"GET {_SERVER}/os-volume_attachments",
    repairs=(respelled('"volumId"', '"volumeId"', _VOLUME_ID),),
)

NATIVE_VOLUME_ANSWER = Example(
    name="native_volume_answer",
    sections=("5.8.2",),
    call=f"GET {_SERVER}/os-volume_attachments/{{volume_id}}",
    repairs=(respelled('"volumId"', '"volumeId"', _VOLUME_ID),),
)

NATIVE_ATTACH_REQUEST = Example(
    name="native_attach_request", sections=("5.8.3",), call=f"POST {_SERVER}/os-volume_attachments"
)

NATIVE_ATTACH_ANSWER = Example(
    name="native_attach_answer",
    sections=("5.8.3",),
    call=f"POST {_SERVER}/os-volume_attachments",
    repairs=(
        Repair('"volumeAttachment": {\n```\n\n```\n', '"volumeAttachment": {\n', "a page break inside the attachment"),
        Repair('"/dev/vdb"\n    }\n', '"/dev/vdb"\n    }\n}\n', _ANSWER_OPEN),
    ),
)

KEYPAIRS_ANSWER = Example(
    name="keypairs_answer",
    sections=("5.9.1",),
    call=f"GET {_KEYPAIRS}",
    repairs=(
        rejoined("Eo/\nRZRngaGT", "Eo/RZRngaGT"),
        rejoined("+kV\n+4gRkgCR", "+kV+4gRkgCR"),
        rejoined("KRi/\nk7JLos", "KRi/k7JLos"),
    ),
)

KEYPAIR_ANSWER = Example(
    name="keypair_answer",
    sections=("5.9.2",),
    call=f"GET {_KEYPAIRS}/{{keypair_name}}",
    repairs=(
        Repair(
            "nSgV/\n```\n\n```\n9IXRx1",
            "nSgV/9IXRx1",
            "a page break inside a text; the key goes on behind it",
        ),
        Repair('"fake"\n}\n', '"fake"\n}\n}\n', _ANSWER_OPEN),
    ),
)

_KEY_LINES = (
    rejoined('"ssh-rsa\nAAAAB3', '"ssh-rsa AAAAB3'),
    rejoined("REFktn/\nKz7DUt9", "REFktn/Kz7DUt9"),
    rejoined("1kyD\n+htiTt", "1kyD+htiTt"),
)

KEYPAIR_REQUEST = Example(name="keypair_request", sections=("5.9.3",), call=f"POST {_KEYPAIRS}", repairs=_KEY_LINES)

KEYPAIR_CREATED_ANSWER = Example(
    name="keypair_created_answer", sections=("5.9.3",), call=f"POST {_KEYPAIRS}", repairs=_KEY_LINES
)

TAGS_ANSWER = Example(name="tags_answer", sections=("5.10.1",), call=f"GET {_SERVER}/tags")

TAGS_REQUEST = Example(name="tags_request", sections=("5.10.2",), call=f"PUT {_SERVER}/tags")

TAGS_REPLACED_ANSWER = Example(name="tags_replaced_answer", sections=("5.10.2",), call=f"PUT {_SERVER}/tags")

TAG_MISSING_ANSWER = Example(name="tag_missing_answer", sections=("5.10.5",), call=f"GET {_SERVER}/tags/{{tag}}")

NATIVE_EXAMPLES = (
    NATIVE_CREATE_REQUEST,
    NATIVE_CREATE_ANSWER,
    NATIVE_SERVER_ANSWER,
    NATIVE_SERVERS_ANSWER,
    NATIVE_SERVER_DETAILS_ANSWER,
    NATIVE_RENAME_REQUEST,
    NATIVE_RENAME_ANSWER,
    NATIVE_START_REQUEST,
    NATIVE_REBOOT_REQUEST,
    NATIVE_STOP_REQUEST,
    NATIVE_METADATA_ANSWER,
    NATIVE_METADATA_REQUEST,
    NATIVE_METADATA_UPDATED_ANSWER,
    NATIVE_META_REQUEST,
    NATIVE_META_ANSWER,
    NATIVE_ADDRESSES_ANSWER,
    NATIVE_ADDRESS_ANSWER,
    NATIVE_FLAVORS_ANSWER,
    NATIVE_FLAVOR_ANSWER,
    NATIVE_EXTRA_SPECS_ANSWER,
    NATIVE_INTERFACES_ANSWER,
    NATIVE_INTERFACE_ANSWER,
    NATIVE_VOLUMES_ANSWER,
    NATIVE_VOLUME_ANSWER,
    NATIVE_ATTACH_REQUEST,
    NATIVE_ATTACH_ANSWER,
    KEYPAIRS_ANSWER,
    KEYPAIR_ANSWER,
    KEYPAIR_REQUEST,
    KEYPAIR_CREATED_ANSWER,
    TAGS_ANSWER,
    TAGS_REQUEST,
    TAGS_REPLACED_ANSWER,
    TAG_MISSING_ANSWER,
)
