"""RabbitMQ: publishing, queues, pauses, poison messages."""
