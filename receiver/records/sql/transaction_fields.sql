CROSS JOIN LATERAL jsonb_to_record(read.payload) AS field ($fields)
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN jsonb_typeof(read.payload #> '{payment_product,id}') IN ('string', 'number')
            THEN read.payload #>> '{payment_product,id}' END AS payment_product_id,
        CASE WHEN jsonb_typeof(read.payload #> '{payment_product,name}') = 'string'
            THEN read.payload #>> '{payment_product,name}'
            WHEN jsonb_typeof(read.payload -> 'payment_product') = 'string'
            THEN read.payload ->> 'payment_product' END AS payment_product_name,
        CASE WHEN jsonb_typeof(read.payload -> 'card_funding') = 'string'
            THEN read.payload ->> 'card_funding' END AS card_funding
) AS derived
