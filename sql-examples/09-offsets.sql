-- What a range means in offsets, and the bounds of the log, without reading a record.

SELECT partition, start_offset, end_offset, log_start_offset, high_watermark, leader
FROM kafka_offsets('orders', '-10')
ORDER BY partition;
-- expect: 4 rows
