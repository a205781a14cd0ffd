"""Messages by Amazon SNS, which sends them on as e-mails."""

from typing import TYPE_CHECKING

from trader.messages.base import MAX_SUBJECT_CHARACTERS, Message

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient


class SnsTopic:
    """A topic of SNS as a channel."""

    def __init__(self, arn: str) -> None:
        self._arn = arn

    @property
    def name(self) -> str:
        """See Channel."""
        return "SNS"

    def send(self, message: Message) -> None:
        """See Channel. A subject in SNS has only printable ASCII; other characters become question marks."""
        subject = message.subject.encode("ascii", "replace").decode()[:MAX_SUBJECT_CHARACTERS]
        self._client().publish(TopicArn=self._arn, Subject=subject, Message=message.short_text)

    def _client(self) -> "SNSClient":
        import boto3  # imported here because a run without a message does not need it
        from botocore.config import Config

        region = self._arn.split(":")[3]
        # One attempt: a second one after a late answer would send the same message twice.
        config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})
        return boto3.client("sns", region_name=region, config=config)
