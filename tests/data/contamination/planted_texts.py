"""Public texts that stand both in evaluation items and, rightly, elsewhere: what decontamination must leave alone.

Each entry is (the shared text, an evaluation question that holds it, its answer). The texts are in the public domain,
or too short and common to be anyone's.
"""

QUOTATIONS = [
    ("Four score and seven years ago our fathers brought forth on this continent a new nation, conceived in liberty, and dedicated to the proposition that all men are created equal.", "Which president opened a short speech at a battlefield cemetery with the words 'Four score and seven years ago our fathers brought forth on this continent a new nation'?", "Abraham Lincoln"),
    ("We hold these truths to be self-evident, that all men are created equal, that they are endowed by their Creator with certain unalienable Rights, that among these are Life, Liberty and the pursuit of Happiness.", "A pupil copies 'We hold these truths to be self-evident, that all men are created equal' onto a poster about the colonies. Who was the main author of that document?", "Thomas Jefferson"),
    ("To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer the slings and arrows of outrageous fortune, or to take arms against a sea of troubles and by opposing end them.", "An actor practises 'To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer' before an audition in a small town. Which prince speaks these lines?", "Hamlet"),
    ("It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.", "In which novel by Jane Austen does the narrator begin with 'It is a truth universally acknowledged, that a single man in possession of a good fortune'?", "Pride and Prejudice"),
    ("It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it was the epoch of belief, it was the epoch of incredulity.", "A teacher reads aloud 'It was the best of times, it was the worst of times, it was the age of wisdom' and asks which two cities the novel's title means. What should pupils say?", "London and Paris"),
    ("Ask not what your country can do for you, ask what you can do for your country.", "During which ceremony in January 1961 did a new leader tell listeners 'Ask not what your country can do for you'?", "his inauguration"),
    ("The only thing we have to fear is fear itself, nameless, unreasoning, unjustified terror which paralyzes needed efforts to convert retreat into advance.", "Economists often cite 'The only thing we have to fear is fear itself' when banks fail. Which American leader said it while taking office in 1933?", "Franklin Roosevelt"),
    ("I have nothing to offer but blood, toil, tears and sweat. You ask, what is our policy? I can say: it is to wage war, by sea, land and air, with all our might.", "To which body did a prime minister say 'I have nothing to offer but blood, toil, tears and sweat' in the spring of 1940?", "the House of Commons"),
    ("In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was upon the face of the deep.", "A museum label reads 'In the beginning God created the heaven and the earth' beside a printed Bible of 1455. Who printed that Bible?", "Johannes Gutenberg"),
    ("Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and nothing particular to interest me on shore, I thought I would sail about a little.", "A ship's name is mentioned late in the novel that starts 'Call me Ishmael. Some years ago, never mind how long precisely'. What is the name of the whaler?", "Pequod"),
    ("All happy families are alike; each unhappy family is unhappy in its own way.", "Scientists use the sentence 'All happy families are alike; each unhappy family is unhappy in its own way' to explain why few animals were ever tamed. What is that principle called?", "the Anna Karenina principle"),
    ("Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or twice she had peeped into the book her sister was reading.", "Which animal runs past the girl shortly after 'Alice was beginning to get very tired of sitting by her sister on the bank', and what does it take out of its pocket?", "a white rabbit with a watch"),
    ("Beautiful is better than ugly. Explicit is better than implicit. Simple is better than complex. Complex is better than complicated. Flat is better than nested. Sparse is better than dense. Readability counts.", "Programmers who type a certain import see the lines 'Beautiful is better than ugly. Explicit is better than implicit. Simple is better than complex'. Which module do they import?", "this"),
    ("That's one small step for man, one giant leap for mankind.", "On what day in 1969 did television viewers hear 'That's one small step for man, one giant leap for mankind' from the lunar surface?", "20 July"),
    ("The quick brown fox jumps over the lazy dog.", "Typists test keyboards with 'The quick brown fox jumps over the lazy dog' because it has a special property. How many letters of the alphabet does it use?", "all twenty-six"),
    ("Government of the people, by the people, for the people, shall not perish from the earth.", "Which country's constitution of 1958 took over 'government of the people, by the people, for the people' as its principle in its second article?", "France"),
    ("We the People of the United States, in Order to form a more perfect Union, establish Justice, insure domestic Tranquility, provide for the common defence, promote the general Welfare.", "In which city did delegates adopt the text that begins 'We the People of the United States, in Order to form a more perfect Union'?", "Philadelphia"),
    ("Congress shall make no law respecting an establishment of religion, or prohibiting the free exercise thereof; or abridging the freedom of speech, or of the press.", "A newspaper was sued after printing secret papers and relied on 'Congress shall make no law respecting an establishment of religion'. Which court decided the case?", "the Supreme Court"),
    ("If I have seen further it is by standing on the shoulders of giants.", "To which rival scientist was the letter addressed that holds 'If I have seen further it is by standing on the shoulders of giants'?", "Robert Hooke"),
    ("Every body perseveres in its state of rest, or of uniform motion in a right line, unless it is compelled to change that state by forces impressed thereon.", "A puck slides over frictionless ice. Using 'Every body perseveres in its state of rest, or of uniform motion in a right line', what happens to its speed?", "it stays the same"),
]  # fmt: skip

POEMS = [
    ("Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\nRough winds do shake the darling buds of May,\nAnd summer's lease hath all too short a date.", "Which month is named in the sonnet whose first lines are 'Shall I compare thee to a summer's day? Thou art more lovely and more temperate'?", "May"),
    ("Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\nCould frame thy fearful symmetry?", "Which collection printed by its own author in 1794 holds the lines 'Tyger Tyger, burning bright, In the forests of the night'?", "Songs of Experience"),
    ("I wandered lonely as a cloud\nThat floats on high o'er vales and hills,\nWhen all at once I saw a crowd,\nA host, of golden daffodils.", "Near which lake had the poet walked with his sister before writing 'I wandered lonely as a cloud That floats on high o'er vales and hills'?", "Ullswater"),
    ("Once upon a midnight dreary, while I pondered, weak and weary,\nOver many a quaint and curious volume of forgotten lore,", "What bird answers the speaker of the poem that opens with 'Once upon a midnight dreary, while I pondered, weak and weary'?", "a raven"),
    ("Because I could not stop for Death,\nHe kindly stopped for me;\nThe carriage held but just ourselves\nAnd Immortality.", "In what kind of vehicle does the speaker of 'Because I could not stop for Death, He kindly stopped for me' travel past a school and fields of grain?", "a carriage"),
    ("Water, water, every where,\nAnd all the boards did shrink;\nWater, water, every where,\nNor any drop to drink.", "What had the sailor shot before the crew suffered 'Water, water, every where, Nor any drop to drink' under a bloody sun?", "an albatross"),
    ("Twinkle, twinkle, little star,\nHow I wonder what you are!\nUp above the world so high,\nLike a diamond in the sky.", "Which composer wrote twelve variations on the tune that children know as 'Twinkle, twinkle, little star, How I wonder what you are'?", "Mozart"),
    ("Two roads diverged in a yellow wood,\nAnd sorry I could not travel both\nAnd be one traveler, long I stood\nAnd looked down one as far as I could", "For which English friend, later killed at Arras, was 'Two roads diverged in a yellow wood, And sorry I could not travel both' meant as a joke?", "Edward Thomas"),
    ("If you can keep your head when all about you\nAre losing theirs and blaming it on you,\nIf you can trust yourself when all men doubt you,", "Above the entrance to which tennis court stand words from the poem with the line 'If you can keep your head when all about you Are losing theirs'?", "Centre Court"),
    ("Listen my children and you shall hear\nOf the midnight ride of Paul Revere,\nOn the eighteenth of April, in Seventy-five;", "How many lanterns were to be hung if the troops came by sea, in the poem with 'Listen my children and you shall hear Of the midnight ride of Paul Revere'?", "two"),
]  # fmt: skip

FORMULAE = [
    ("x^3 + y^3 + z^3 - 3xyz = (x + y + z)(x^2 + y^2 + z^2 - xy - yz - zx)", "Real numbers satisfy x + y + z = 0. Using x^3 + y^3 + z^3 - 3xyz = (x + y + z)(x^2 + y^2 + z^2 - xy - yz - zx), find the cube sum when their product equals seven.", "21"),
    ("tan(A + B) = (tan A + tan B) / (1 - tan A tan B)", "Angles A and B have tangents one half and one third. With tan(A + B) = (tan A + tan B) / (1 - tan A tan B), determine their sum in degrees.", "45"),
    ("x = (-b ± sqrt(b^2 - 4ac)) / (2a)", "Solve the equation with a = 1, b = -5, c = 6 by x = (-b ± sqrt(b^2 - 4ac)) / (2a) and report the larger root.", "3"),
    ("a^2 + b^2 = c^2", "A ladder leans against a wall with its foot five feet away and reaches twelve feet up. Using a^2 + b^2 = c^2, how long is the ladder?", "13 feet"),
    ("e^(i pi) + 1 = 0", "Which five constants does the identity e^(i pi) + 1 = 0 join, according to Feynman's notebook?", "e, i, pi, one and zero"),
    ("1 + 2 + 3 + ... + n = n(n + 1)/2", "A boy adds the whole numbers up to one hundred in seconds by 1 + 2 + 3 + ... + n = n(n + 1)/2. What total does he write on his slate?", "5050"),
    ("sin^2 x + cos^2 x = 1", "Simplify the product (1 - sin x)(1 + sin x) with the identity sin^2 x + cos^2 x = 1.", "cos^2 x"),
    ("d/dx (x^n) = n x^(n-1)", "Use d/dx (x^n) = n x^(n-1) to find the slope of the curve y = x^4 where it crosses the line x = 2.", "32"),
    ("F = G m1 m2 / r^2", "Two spheres are moved to twice their distance. According to F = G m1 m2 / r^2, by what factor does the attraction fall?", "four"),
    ("E = mc^2", "How much energy, in joules, is set free when one gram of matter vanishes, by E = mc^2?", "9 x 10^13"),
    ("P(A|B) = P(B|A) P(A) / P(B)", "A test is right in 99 of 100 cases and one person in a thousand is ill. Using P(A|B) = P(B|A) P(A) / P(B), how likely is illness after a positive result?", "about nine percent"),
    ("(a + b)^2 = a^2 + 2ab + b^2", "Without a calculator, square 103 by means of (a + b)^2 = a^2 + 2ab + b^2.", "10609"),
    ("PV = nRT", "Helium fills a rigid bottle that is warmed from 300 to 600 kelvin. What does PV = nRT say about its pressure?", "it doubles"),
    ("2 H2 + O2 -> 2 H2O", "Balance shows 2 H2 + O2 -> 2 H2O. How many grams of water come from four grams of hydrogen?", "36"),
    ("1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144", "Rabbits breed as in the sequence 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144. What ratio do neighbouring terms approach?", "the golden ratio"),
]  # fmt: skip

CODE = [
    ("for i in range(len(items)):\n    print(i, items[i])", "Rewrite the loop 'for i in range(len(items)): print(i, items[i])' so that it uses no index, naming the built-in that replaces it.", "enumerate"),
    ("if __name__ == '__main__':\n    main()", "Why does a test runner that imports the script not start it, given the lines if __name__ == '__main__': main() at its bottom?", "the name differs on import"),
    ("import os\nimport sys\nimport json\nimport argparse", "A student's file starts with import os, import sys, import json, import argparse. Which of these modules parses command-line arguments?", "argparse"),
    ("with open(path) as f:\n    for line in f:\n        line = line.strip()", "What happens to the file handle when an exception leaves the block with open(path) as f: for line in f: line = line.strip()?", "it is closed"),
    ("def __init__(self, name, value):\n        self.name = name\n        self.value = value", "Which decorator from the standard library would spare the author from writing def __init__(self, name, value): self.name = name; self.value = value?", "dataclass"),
    ("try:\n    import simplejson as json\nexcept ImportError:\n    import json", "Name the exception that lets a module fall back in try: import simplejson as json except ImportError: import json.", "ImportError"),
    ("#include <stdio.h>\nint main(void) {\n    printf(\"Hello, world!\\n\");\n    return 0;\n}", "Which header must a compiler read before it can accept #include <stdio.h> int main(void) { printf(\"Hello, world!\\n\"); return 0; } without warnings about printf?", "stdio.h"),
    ("SELECT name, COUNT(*) FROM users GROUP BY name ORDER BY COUNT(*) DESC", "A table holds three visitors called Ada and one called Bob. What row does SELECT name, COUNT(*) FROM users GROUP BY name ORDER BY COUNT(*) DESC return first?", "Ada 3"),
    ("raise NotImplementedError('subclasses must implement this method')", "An abstract shape's area method does raise NotImplementedError('subclasses must implement this method'). What must a circle define to be usable?", "area"),
    ("git add .\ngit commit -m \"Initial commit\"\ngit push origin main", "After git add . git commit -m \"Initial commit\" git push origin main a colleague sees no file called .env. Which file explains that?", ".gitignore"),
    ("def fib(n):\n    if n < 2:\n        return n\n    return fib(n - 1) + fib(n - 2)", "How many calls in all does def fib(n): if n < 2: return n; return fib(n - 1) + fib(n - 2) make when it is called with five?", "fifteen"),
    ("npm install --save-dev eslint prettier", "A front-end project ran npm install --save-dev eslint prettier yesterday. In which section of package.json are both tools listed now?", "devDependencies"),
]  # fmt: skip

LISTS = [
    ("Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune", "Of Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune, which one spins on its side, so that its poles face the sun in turn?", "Uranus"),
    ("Washington, Adams, Jefferson, Madison, Monroe, Adams, Jackson, Van Buren", "Among Washington, Adams, Jefferson, Madison, Monroe, which two died on the same Fourth of July, fifty years after signing a famous paper?", "Adams and Jefferson"),
    ("January, February, March, April, May, June, July, August, September, October, November, December", "Reading January, February, March, April, May, June, July, August aloud, a child notices months without the letter r. How many are there?", "four"),
    ("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday", "A bakery opens on Monday, Tuesday, Wednesday, Thursday, Friday but shuts early on the day named after Thor. Which day is that?", "Thursday"),
    ("1914, 1915, 1916, 1917, 1918", "Fighting on the western front went on through 1914, 1915, 1916, 1917, 1918. In which of these years did American divisions first arrive in France?", "1917"),
    ("hydrogen, helium, lithium, beryllium, boron, carbon, nitrogen, oxygen, fluorine, neon", "Which of hydrogen, helium, lithium, beryllium, boron, carbon, nitrogen, oxygen, fluorine, neon makes up most of the air we breathe?", "nitrogen"),
    ("Belgium, France, Germany, Italy, Luxembourg and the Netherlands", "Six states, Belgium, France, Germany, Italy, Luxembourg and the Netherlands, signed a treaty in 1957. After which city is the treaty named?", "Rome"),
    ("Matthew, Mark, Luke, John, Acts, Romans", "Sunday pupils recite Matthew, Mark, Luke, John, Acts, Romans. Which of the first four is thought by many scholars to be the oldest?", "Mark"),
    ("Alice, Bob, Carol, Dave, Eve, Frank", "In papers on secret messages Alice, Bob, Carol, Dave, Eve, Frank have fixed roles. Which one listens without permission?", "Eve"),
    ("Alabama, Alaska, Arizona, Arkansas, California, Colorado, Connecticut, Delaware, Florida, Georgia", "Of Alabama, Alaska, Arizona, Arkansas, California, Colorado, Connecticut, Delaware, Florida, Georgia, which was the first to ratify the federal charter?", "Delaware"),
]  # fmt: skip

INSTRUCTIONS = [
    "Choose the best answer to the following question.",
    "What is the answer to the following question? Think step by step.",
    "Read the passage below and answer the question that follows.",
    "The following is a multiple choice question. Select the correct option from the choices given below.",
    "Answer the question based on the context above. If the question cannot be answered, say so.",
    "You are a helpful assistant. Answer the following question as truthfully as you can.",
    "Which of the following best describes the main idea of the passage?",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "Construct a complete truth table for the following argument, then determine whether the argument is valid or invalid.",
    "Let's think step by step. Give your reasoning first and put your final answer after four hash signs.",
    "Fill in the blank with the most suitable word from the list.",
    "Translate the following sentence into English and explain your choice of words.",
]  # fmt: skip
