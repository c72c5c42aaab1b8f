"""``/v1/chat/completions``: conversations, tools and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .common import LONGEST_NAME, Sampling, ShortText, Strict, Usage

MOST_MESSAGES = 4096
MOST_TOOLS = 128
MOST_PARTS = 1024
MOST_CHOICES = 1000

ToolName = Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class TextPart(Strict):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


class RefusalPart(Strict):
    """A piece of an answer in which the model refused."""

    type: Literal["refusal"]
    refusal: str


Text = str | Annotated[list[TextPart], Field(min_length=1, max_length=MOST_PARTS, fail_fast=True)]
AnswerText = (
    str
    | Annotated[
        list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]],
        Field(min_length=1, max_length=MOST_PARTS, fail_fast=True),
    ]
)


class CalledFunction(Strict):
    """Which function was called, and with what."""

    name: ToolName
    arguments: str
    """JSON, as the model wrote it."""


class ToolCall(Strict):
    """A call that the model asked for."""

    id: ShortText
    type: Literal["function"]
    function: CalledFunction


class SystemMessage(Strict):
    """What the model is told first; ``developer`` is another name for ``system``."""

    role: Literal["system", "developer"]
    content: Text
    name: ShortText | None = None


class UserMessage(Strict):
    """What somebody asks."""

    role: Literal["user"]
    content: Text
    name: ShortText | None = None


class AssistantMessage(Strict):
    """What the model answered; an answer of this server may be sent back as it came."""

    role: Literal["assistant"]
    content: AnswerText | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST_TOOLS, fail_fast=True)] | None = None
    name: ShortText | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise ValueError("an assistant's message needs content, tool_calls or a refusal")
        return self


class ToolMessage(Strict):
    """What a called tool gave back."""

    role: Literal["tool"]
    content: Text
    tool_call_id: ShortText


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]
Messages = Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)]


class Function(Strict):
    """What the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON Schema of the arguments, an object; left out, there are none."""
    strict: bool | None = None
    """Taken and ignored: arguments follow the schema where a call is required, and as the model knows otherwise."""

    @model_validator(mode="after")
    def _takes_an_object(self) -> Function:
        if self.parameters and self.parameters.get("type", "object") != "object":
            raise ValueError("a function's parameters are an object: its schema has the type 'object'")
        return self


class Tool(Strict):
    """A function that the model may call."""

    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    """A function by its name."""

    name: ToolName


class NamedTool(Strict):
    """A tool by its name."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Strict):
    """Some of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MOST_TOOLS, fail_fast=True)]


class AllowedToolsChoice(Strict):
    """A choice of some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class JSONSchema(Strict):
    """What an answer must look like."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    name: Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None
    """Taken and ignored: an answer always follows the schema."""


class TextFormat(Strict):
    """Any text."""

    type: Literal["text"]


class JSONObjectFormat(Strict):
    """An object of JSON."""

    type: Literal["json_object"]


class JSONSchemaFormat(Strict):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JSONSchema


class RegexFormat(Strict):
    """A text that a regular expression matches as a whole. Not of OpenAI's."""

    type: Literal["regex"]
    pattern: str


class ChoiceFormat(Strict):
    """One of several texts. Not of OpenAI's."""

    type: Literal["choice"]
    choices: Annotated[
        list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MOST_CHOICES, fail_fast=True)
    ]


class GrammarFormat(Strict):
    """A text of a grammar in Lark's notation. Not of OpenAI's."""

    type: Literal["grammar"]
    grammar: str


ResponseFormat = Annotated[
    TextFormat | JSONObjectFormat | JSONSchemaFormat | RegexFormat | ChoiceFormat | GrammarFormat,
    Field(discriminator="type"),
]


class ChatRequest(Sampling):
    """A conversation that is to be continued."""

    messages: Messages
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**63)
    """Another name for max_tokens."""
    logprobs: bool | None = None
    """Whether each token comes with its log-probability."""
    top_logprobs: int | None = Field(None, ge=0, le=20)
    """How many of the likeliest tokens come with each; needs logprobs."""
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedToolsChoice | None = None
    """Whether the model may, must not or must call a tool, or which; ``auto`` where there are tools."""
    parallel_tool_calls: bool | None = None
    """false leaves every call after the first away."""
    modalities: Annotated[list[Literal["text"]], Field(max_length=8, fail_fast=True)] | None = None
    reasoning_effort: ShortText | None = None
    """Taken and ignored, as is verbosity."""
    verbosity: ShortText | None = None
    prediction: dict[str, Any] | None = None
    """Taken and ignored: it changes how fast an answer comes, and not what it says."""
    audio: None = None
    """Only null: this server speaks in text alone."""
    web_search_options: None = None
    """Only null: it searches nothing."""
    functions: None = None
    """Only null: tools have taken their place."""
    function_call: None = None
    """Only null: tool_choice has taken its place."""

    @model_validator(mode="after")
    def _fits_together(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("two tools have one name")
        if not set(self.chosen_tools or ()) <= set(names):
            raise ValueError("tool_choice names a tool that is not among the tools")
        if self.must_call and not names:
            raise ValueError("tool_choice is 'required', and there are no tools")
        return self

    @property
    def chosen_tools(self) -> list[str] | None:
        """The names of the tools that may be called, where the choice says; None for all there are."""
        if isinstance(self.tool_choice, NamedTool):
            return [self.tool_choice.function.name]
        if isinstance(self.tool_choice, AllowedToolsChoice):
            return [tool.function.name for tool in self.tool_choice.allowed_tools.tools]
        return [] if self.tool_choice == "none" else None

    @property
    def must_call(self) -> bool:
        """Whether the answer must be a call."""
        if isinstance(self.tool_choice, AllowedToolsChoice):
            return self.tool_choice.allowed_tools.mode == "required"
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)


class TopLogprob(BaseModel):
    """A token that might have been taken."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatLogprob(TopLogprob):
    """A token that was taken."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """How likely each token was."""

    content: list[ChatLogprob] | None
    refusal: None = None


class AnswerMessage(BaseModel):
    """What the model answered."""

    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: ChatLogprobs | None


class ChatCompletion(BaseModel):
    """The answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = Field(max_length=LONGEST_NAME)
