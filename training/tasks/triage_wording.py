"""What customers write, by the label that it gets, and how people ask for the label."""

from training.words import Wording

# label -> (beginnings, ends): any beginning goes with any end of its own row.
PHRASES: dict[str, tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = {
    "billing": (
        (
            ("Why did you take", "Someone took", "You took", "The system took"),
            (
                "money from my card",
                "a second payment",
                "20 euros too much",
                "a payment after I cancelled",
                "a fee from my account",
            ),
        ),
        (
            ("My credit card", "My payment", "The card payment"),
            ("was declined", "did not go through", "was booked twice", "is still pending", "failed but I was charged"),
        ),
        (
            ("I was charged", "You charged me", "My card was charged", "My bank account was debited"),
            (
                "twice",
                "two times",
                "too much",
                "for something I never bought",
                "the wrong amount",
                "again this month",
                "three times",
            ),
        ),
        (
            ("The invoice", "My last bill", "The receipt", "This month's invoice", "The payment page"),
            (
                "shows the wrong amount",
                "is higher than agreed",
                "has the wrong tax",
                "lists a fee I do not know",
                "asks for money I already paid",
            ),
        ),
        (
            ("Please send me", "I need", "Where can I find", "Could I get"),
            (
                "an invoice",
                "a copy of my bill",
                "a receipt for my payment",
                "my tax invoice",
                "the bill for March",
            ),
        ),
        (
            ("The discount", "My coupon", "The promo code"),
            ("was not taken off the price", "is missing from my invoice", "did not lower my bill"),
        ),
    ),
    "shipping": (
        (
            ("Where's", "When will you send", "How long until I get", "I am still waiting for"),
            ("my package", "my parcel", "my order", "the delivery", "the things I ordered"),
        ),
        (
            ("The driver", "The delivery man", "The postman", "Your courier"),
            ("did not ring", "left the box at the wrong house", "was two hours late", "lost my package"),
        ),
        (
            ("My parcel", "My package", "The delivery", "My order", "The box I ordered"),
            (
                "has not arrived",
                "is late",
                "still has not come",
                "is stuck in customs",
                "went to the wrong address",
                "was delivered to my neighbour",
                "has been on the way for two weeks",
                "was left in the rain by the courier",
            ),
        ),
        (
            ("Where is", "When will I get", "How do I track", "Can you tell me where to find"),
            ("my parcel", "my package", "my delivery", "the box you sent", "my shipment"),
        ),
        (
            ("The tracking number", "The tracking page", "The courier"),
            (
                "shows nothing",
                "says it is lost",
                "never came",
                "has not moved for days",
                "does not know my address",
            ),
        ),
    ),
    "technical": (
        (
            ("The website", "The app", "Your page", "The checkout page", "The login page"),
            (
                "keeps throwing an error",
                "keeps crashing",
                "won't load",
                "hangs when I click on pay",
                "doesn't work in my browser",
                "shows a 404",
                "logs an exception",
                "does not react to clicks",
            ),
        ),
        (
            ("The app", "Your website", "The program", "The mobile app", "The page"),
            (
                "crashes when I open it",
                "freezes all the time",
                "shows an error",
                "does not load",
                "is very slow since the update",
                "shows a blank screen",
                "stops working after a minute",
                "gives error 500",
            ),
        ),
        (
            ("The search button", "The export", "The upload", "The video player", "The printer driver"),
            ("does nothing", "is broken", "fails with an error", "crashes", "does not work on my phone"),
        ),
        (
            ("After the last update", "Since yesterday", "On my new phone", "In my browser"),
            (
                "the app crashes",
                "nothing loads",
                "the screen stays black",
                "I get an error message",
                "the sound does not work",
            ),
        ),
    ),
    "account": (
        (
            ("I want to cancel", "Please cancel", "How do I cancel", "I'd like to end", "Please stop"),
            ("my subscription", "my plan", "my membership", "my contract", "my free trial"),
        ),
        (
            (
                "I can't get into",
                "I can't log into",
                "Somebody hacked",
                "I no longer have access to",
                "I am unable to enter",
            ),
            ("my account", "my profile", "my account anymore", "my user account", "my account since Monday"),
        ),
        (
            ("I forgot", "I lost", "How do I reset", "I want to change", "Please reset"),
            ("my password", "my user name", "my login", "my pin", "the password of my account"),
        ),
        (
            ("I cannot log in", "I can't sign in", "I am locked out", "Login fails"),
            (
                "to my account",
                "since I changed my phone",
                "with my email",
                "after three tries",
                "even with the right password",
            ),
        ),
        (
            ("Please delete", "I want to close", "How can I delete", "Please update", "How do I change"),
            (
                "my account",
                "my profile",
                "the email of my account",
                "my user profile",
                "the name on my account",
            ),
        ),
    ),
    "returns": (
        (
            ("My refund", "The refund", "My money back"),
            ("has not come", "hasn't shown up", "is still missing", "never arrived", "takes too long"),
        ),
        (
            ("I don't like", "I no longer want", "I changed my mind about"),
            ("the dress and want to return it", "the shoes, can I send them back", "the lamp, please take it back"),
        ),
        (
            (
                "I want to return",
                "How do I return",
                "I would like to send back",
                "Can I exchange",
                "I need to send back",
            ),
            (
                "the shoes",
                "this lamp",
                "the jacket",
                "my order",
                "a gift",
                "the chair I bought",
                "two shirts",
                "the phone case",
            ),
        ),
        (
            ("The shirt", "The jacket", "The lamp", "The chair", "The item", "The vase"),
            (
                "is too small, I want another size",
                "arrived broken and I want my money back",
                "is the wrong colour, please exchange it",
                "does not fit, I want to return it",
                "is damaged and I want a refund",
            ),
        ),
        (
            ("When do I get", "I am waiting for", "I sent it back, where is", "Please give me"),
            ("my refund", "my money back", "the refund for the shoes", "a full refund", "the return label"),
        ),
    ),
    "feedback": (
        (
            ("You guys", "You people", "Your team", "You all"),
            ("are awesome", "are the best", "did a great job", "rock", "made my day", "are very kind"),
        ),
        (
            ("Just wanted to say", "I only want to say", "Let me tell you:"),
            ("thank you", "I love the product", "great work", "the new version is lovely", "your support is great"),
        ),
        (
            ("I love", "I really like", "We all enjoy", "I am very happy with", "Thank you for"),
            (
                "your service",
                "the new design",
                "your shop",
                "the friendly staff",
                "this product",
                "the great support",
            ),
        ),
        (
            ("Great", "Wonderful", "Excellent", "Really nice", "Fantastic"),
            ("job", "work, thank you", "team, keep going", "service as always", "experience, five stars"),
        ),
        (
            (
                "It would be nice to have",
                "You should add",
                "I suggest",
                "My idea for you:",
                "Please consider adding",
            ),
            (
                "a dark mode",
                "more colours",
                "a night theme",
                "longer opening hours",
                "a wish list",
                "a bigger font",
            ),
        ),
    ),
}

OTHER_PHRASES: dict[str, tuple[str, ...]] = {
    "billing": (
        "My card was charged for the same invoice two times",
        "There is a fee on my bill that I never agreed to",
        "You billed me the wrong amount this month",
        "I need the receipt for my last payment",
        "The coupon is not on my invoice",
    ),
    "shipping": (
        "The courier lost my box",
        "I have been waiting for my parcel for three weeks",
        "My delivery went to the wrong street",
        "The tracking page says that my package is in customs",
        "Tell me where my shipment is",
    ),
    "technical": (
        "The page shows an error when I click on search",
        "The app on my phone crashes at every start",
        "Your website is very slow and then freezes",
        "The upload stops with error 500",
        "Nothing loads in my browser since the update",
    ),
    "account": (
        "My password does not work and I am locked out of my account",
        "Please change the email of my user profile",
        "I want you to close my account",
        "I can't sign in with my user name",
        "How do I end my subscription",
    ),
    "returns": (
        "The shoes do not fit and I want to send them back",
        "I returned the jacket and my refund is still missing",
        "Can I exchange the lamp for another colour",
        "The chair is damaged, I want my money back",
        "How do I get a return label for my order",
    ),
    "feedback": (
        "Your staff is very friendly, thank you",
        "I am happy with the new version",
        "A dark mode would be nice",
        "Five stars for your support team",
        "I like your shop very much, keep going",
    ),
}

OPENERS = (
    "",
    "",
    "",
    "Hello, ",
    "Hi, ",
    "Hi there, ",
    "Dear team, ",
    "Good morning, ",
    "Hey, ",
    "Dear support, ",
)

CLOSERS = (
    "",
    "",
    "",
    "",
    " Please help.",
    " Thanks.",
    " What can I do?",
    " Can you help me?",
    " It is urgent.",
    " Regards",
)

ASKS = Wording(
    (
        "Classify this ticket",
        "Classify the ticket",
        "Classify this support ticket",
        "Classify this message",
        "Classify this support message",
        "Which category fits this ticket",
        "Which category does this support message belong to",
        "Label this ticket",
        "Label the support ticket",
        "Triage this ticket",
        "Triage",
        "Ticket",
        "Support ticket",
        "What kind of ticket is this",
        "Assign a category to this support ticket",
        "Sort this ticket into a category",
    ),
    (
        "Tell me the category of this support ticket",
        "Which label would you give this ticket",
        "Put this ticket into a category",
        "Categorize this support message",
        "Which team handles this ticket",
    ),
)

LABEL_LISTS = ("", "", "", "", " ({labels})", " as one of {labels}", ". Labels: {labels}")
