"""What clients send, decoded and checked by one compiled contract: rows (`RowContract`) and labels (`LabelContract`).

`responses` is the other direction: what clients get.
"""
